resource "aws_emr_security_configuration" "e" {
  configuration = <<-EOT
    {"InstanceMetadataServiceConfiguration": {"MinimumInstanceMetadataServiceVersion": 1}}
  EOT
}
