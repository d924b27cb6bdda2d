resource "aws_instance" "web" {
  metadata_options {
    http_endpoint = var.endpoint
    http_tokens   = "optional"
  }
}
