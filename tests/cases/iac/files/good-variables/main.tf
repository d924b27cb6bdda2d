resource "aws_instance" "web" {
  metadata_options {
    http_tokens = var.stage == "prod" ? var.tokens : coalesce(var.nothing, "required")
  }
}

resource "aws_instance" "none" {
  count = var.enabled ? 1 : 0
  metadata_options {
    http_tokens = "optional"
  }
}

resource "aws_instance" "same" {
  metadata_options {
    http_tokens = var.asked ? "required" : "required"
  }
}

resource "aws_instance" "dynamic" {
  dynamic "metadata_options" {
    for_each = try(local.settings.blocks, [1])
    content {
      http_tokens = merge(local.settings, { tokens = "required" }).tokens
    }
  }
}
