resource "aws_ami" "own" {
  name         = "own"
  imds_support = "v3.0"
}
