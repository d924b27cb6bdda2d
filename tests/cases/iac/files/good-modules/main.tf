module "web" {
  source   = "./template"
  for_each = { a = "required", b = "required" }
  tokens   = each.value
}
