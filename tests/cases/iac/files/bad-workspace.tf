locals {
  map = { dev = "optional", prod = "required" }
}
resource "aws_instance" "a" {
  ami = "x"
  metadata_options { http_tokens = local.map[terraform.workspace] }
}
