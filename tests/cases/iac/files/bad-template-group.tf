resource "aws_launch_template" "web" {
  image_id = "ami-0a"
  metadata_options {
    http_tokens = "optional"
  }
}
resource "aws_autoscaling_group" "web" {
  launch_template {
    id      = aws_launch_template.web.id
    version = "$Latest"
  }
}
