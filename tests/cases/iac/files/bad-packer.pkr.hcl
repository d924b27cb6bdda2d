source "amazon-ebs" "base" {
  source_ami   = "ami-0a"
  imds_support = "v1.0"
  metadata_options {
    http_tokens = "required"
  }
}
