variable "tokens" {
  type    = string
  default = "optional"
}

resource "aws_instance" "web" {
  ami = "ami-0a"
  metadata_options {
    http_tokens = "optional"
  }
}

resource "aws_launch_template" "web" {
  metadata_options {
    http_tokens = var.tokens
  }
}
