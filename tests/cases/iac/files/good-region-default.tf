resource "aws_ec2_instance_metadata_defaults" "here" {
  http_tokens                 = "required"
  http_put_response_hop_limit = 2
}
