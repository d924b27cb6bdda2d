locals {
  base = { http_tokens = "required", http_endpoint = "enabled" }
  opts = merge(local.base, { http_tokens = "optional" })
}
resource "aws_launch_template" "a" {
  dynamic "metadata_options" {
    for_each = [local.opts]
    content {
      http_tokens   = metadata_options.value["http_tokens"]
    }
  }
}
