resource "aws_imagebuilder_infrastructure_configuration" "images" {
  instance_metadata_options {
    http_tokens = "optional"
  }
}
