resource "aws_launch_template" "web" {
  name = "web"
  metadata_options {
    http_tokens = "required"
  }
}
resource "aws_ec2_fleet" "web" {
  launch_template_config {
    launch_template_specification {
      launch_template_name = "web"
      version              = "$Default"
    }
  }
}
resource "aws_autoscaling_group" "web" {
  launch_template {
    name = aws_launch_template.web.name
  }
}
