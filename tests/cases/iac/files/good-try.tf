variable "o" { default = {} }
resource "aws_instance" "a" {
  ami = "x"
  metadata_options { http_tokens = try(var.o.tokens, "required") }
}
