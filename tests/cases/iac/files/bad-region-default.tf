resource "aws_ec2_instance_metadata_defaults" "here" {
  http_tokens = "no-preference"
}
