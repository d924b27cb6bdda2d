variable "stage" {}
variable "tokens" {
  default = "optional"
}
variable "nothing" {
  default = null
}
variable "enabled" {
  default = false
}
variable "asked" {}
locals {
  settings = { tokens = "optional" }
}
