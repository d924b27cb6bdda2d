resource "aws_launch_configuration" "old" {
  image_id = "ami-0a"
  metadata_options {
    http_tokens = "optional"
  }
}
