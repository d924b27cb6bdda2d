variable "tokens" {}

resource "aws_launch_template" "hosts" {
  metadata_options {
    http_tokens = var.tokens
  }
}
