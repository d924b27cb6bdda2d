resource "aws_instance" "a" {
  for_each = toset(["required", "optional"])
  ami = "x"
  metadata_options { http_tokens = each.key }
}
