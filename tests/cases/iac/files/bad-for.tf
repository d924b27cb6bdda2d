variable "hosts" {
  default = { web = { v2 = false }, db = { v2 = true } }
}
locals {
  opts = { for name, h in var.hosts : name => { tokens = h.v2 ? "required" : "optional" } }
}
resource "aws_instance" "a" {
  for_each = local.opts
  ami = "ami-1"
  metadata_options { http_tokens = each.value.tokens }
}
