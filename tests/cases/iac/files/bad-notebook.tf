resource "aws_sagemaker_notebook_instance" "lab" {
  name = "lab"
}
