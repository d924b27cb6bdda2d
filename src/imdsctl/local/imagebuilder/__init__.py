"""EC2 Image Builder: infrastructure configurations, whose build and test instances get the options they name."""
