resource "aws_instance" "host" {
  user_data = "echo ECS_CLUSTER=${var.cluster} >> /etc/ecs/ecs.config"
  metadata_options {
    http_put_response_hop_limit = 1
    http_tokens                 = "required"
  }
}
