"""AWS Elastic Beanstalk of the local AWS: environments, whose option `DisableIMDSv1` decides their instances' IMDS."""
