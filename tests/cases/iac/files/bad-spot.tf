resource "aws_spot_instance_request" "worker" {
  metadata_options {
    http_tokens = "optional"
  }
}
