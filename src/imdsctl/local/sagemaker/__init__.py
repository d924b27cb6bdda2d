"""Amazon SageMaker of the local AWS: notebook instances, with the metadata service versions that they allow."""
