variable "cfg" {
  type = object({ tokens = optional(string, "optional") })
  default = {}
}
resource "aws_instance" "a" {
  ami = "x"
  metadata_options { http_tokens = var.cfg.tokens }
}
