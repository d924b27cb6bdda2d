variable "tokens" {
  default = "optional"
}

module "weak" {
  source = "./template"
  tokens = var.tokens
}

module "strong" {
  source = "./template"
  tokens = "required"
}

module "forgetful" {
  source = "./template"
}

module "off" {
  source = "./template"
  count  = 0
  tokens = "optional"
}

module "elsewhere" {
  source        = "terraform-aws-modules/ec2-instance/aws"
  instance_type = "t3.micro"
}

module "network" {
  source = "terraform-aws-modules/vpc/aws"
}

resource "aws_autoscaling_group" "weak" {
  launch_template {
    id = module.weak.id
  }
}
