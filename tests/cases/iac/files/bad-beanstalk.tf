resource "aws_elastic_beanstalk_environment" "e" {
  application = "a"
  name        = "b"
  setting {
    namespace = "aws:autoscaling:launchconfiguration"
    name      = "DisableIMDSv1"
    value     = "false"
  }
}
