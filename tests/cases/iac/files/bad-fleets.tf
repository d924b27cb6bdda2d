resource "aws_spot_fleet_request" "silent" {
  launch_specification { ami = "ami-0a" }
}
resource "aws_ec2_fleet" "elsewhere" {
  launch_template_config {
    launch_template_specification { launch_template_id = data.aws_launch_template.web.id }
  }
}
