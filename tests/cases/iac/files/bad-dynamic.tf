resource "aws_instance" "web" {
  dynamic "metadata_options" {
    for_each = var.options
    content {
      http_tokens = "required"
    }
  }
}
