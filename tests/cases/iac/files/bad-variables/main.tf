resource "aws_instance" "default" {
  metadata_options {
    http_tokens = var.tokens
  }
}

resource "aws_instance" "no_default" {
  metadata_options {
    http_tokens = var.asked
  }
}

resource "aws_instance" "conditional" {
  metadata_options {
    http_tokens = var.stage == "prod" ? "required" : local.weak
  }
}

resource "aws_instance" "undecided" {
  metadata_options {
    http_tokens = var.asked == "x" ? "required" : "optional"
  }
}

resource "aws_instance" "member" {
  metadata_options {
    http_tokens = var.options.http_tokens
  }
}

resource "aws_instance" "each" {
  for_each = local.fleet
  metadata_options {
    http_tokens = each.value.tokens
  }
}

resource "aws_instance" "dynamic" {
  dynamic "metadata_options" {
    for_each = var.blocks
    content {
      http_tokens = lookup(metadata_options.value, "tokens", "required")
    }
  }
}

resource "aws_instance" "circle" {
  metadata_options {
    http_tokens = local.one
  }
}

resource "aws_instance" "run" {
  metadata_options {
    http_tokens = data.aws_ssm_parameter.tokens.value
  }
}
