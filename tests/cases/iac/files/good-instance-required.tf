resource "aws_instance" "web" {
  ami = "ami-0a"
  metadata_options {
    http_endpoint = "enabled"
    http_tokens   = "required"
  }
}
