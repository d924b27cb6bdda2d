locals {
  base = { http_tokens = "optional", http_endpoint = "enabled" }
  opts = merge(local.base, { http_tokens = "required" })
}
resource "aws_launch_template" "a" {
  dynamic "metadata_options" {
    for_each = [local.opts]
    content {
      http_tokens   = metadata_options.value.http_tokens
      http_endpoint = lookup(metadata_options.value, "http_endpoint", null)
    }
  }
}
