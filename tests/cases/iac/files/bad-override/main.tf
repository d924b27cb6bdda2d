resource "aws_instance" "web" {
  ami = "ami-0a"
  metadata_options {
    http_tokens = "required"
  }
}

module "hosts" {
  source = "./hosts"
  tokens = "required"
}
