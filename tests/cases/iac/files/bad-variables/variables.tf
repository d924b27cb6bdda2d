variable "tokens" {
  default = "optional"
}

variable "asked" {
  type = string
}

variable "stage" {
  default = "dev"
}

variable "options" {
  type = object({
    http_tokens = optional(string, "optional")
  })
  default = {}
}

variable "blocks" {
  default = [{ tokens = "optional" }]
}

locals {
  weak = lower("OPTIONAL")
  one  = local.two
  two  = local.one
  fleet = {
    web   = { tokens = "required" }
    batch = { tokens = "optional" }
  }
}
