resource "aws_emr_security_configuration" "emr" {
  configuration = jsonencode({
    InstanceMetadataServiceConfiguration = {
      MinimumInstanceMetadataServiceVersion = 1
    }
  })
}
