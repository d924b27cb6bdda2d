resource "aws_launch_template" "lt" {
  count = 2
  metadata_options { http_tokens = "required" }
}
resource "aws_autoscaling_group" "g" {
  launch_template {
    id      = element(aws_launch_template.lt[*].id, 0)
    version = "$Latest"
  }
}
