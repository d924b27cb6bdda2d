resource "aws_launch_template" "nodes" {
  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
}
resource "aws_eks_node_group" "nodes" {
  launch_template {
    id = aws_launch_template.nodes.id
  }
}
