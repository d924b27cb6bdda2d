stage  = "dev"
tokens = "optional"
