resource "aws_launch_template" "one" {
  metadata_options { http_tokens = "required" }
}
resource "aws_launch_template" "two" {
  metadata_options { http_tokens = "optional" }
}
resource "aws_autoscaling_group" "g" {
  mixed_instances_policy {
    launch_template {
      launch_template_specification { launch_template_id = aws_launch_template.one.id }
      override {
        instance_type = "c5.large"
        launch_template_specification { launch_template_id = aws_launch_template.two.id }
      }
      override { instance_type = "m5.large" }
    }
  }
}
