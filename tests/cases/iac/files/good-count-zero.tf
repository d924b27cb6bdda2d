resource "aws_instance" "web" {
  count = 0
  metadata_options { http_tokens = "optional" }
}
