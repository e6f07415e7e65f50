# One colour of a deployment. What you have goes in the place of `terraform_data`, which comes with Terraform and lets this
# example run without a cloud: brokers, a load balancer, security groups. Every name takes `var.suffix`.

terraform {
  required_version = ">= 1.4"
}

variable "deployment" {
  type = string
}

variable "colour" {
  type = string
}

variable "suffix" {
  description = "A for blue, B for green"
  type        = string
}

variable "isolations" {
  description = "The nonces of the isolations that stand: while there is one, only the controller gets through"
  type        = set(string)
  default     = []
}

resource "terraform_data" "cluster" {
  input = {
    name      = "Kafka${var.suffix}"
    bootstrap = ["kafka-${lower(var.suffix)}.${var.deployment}.test:9092"]
  }
}

# In a cloud: a security group's rule, one for each nonce, so that a late put-back of another one undoes nothing.
resource "terraform_data" "isolation" {
  for_each = var.isolations
  input    = "${terraform_data.cluster.output.name} is shut by ${each.key}"
}

output "incarnation" {
  value = {
    # An id that is never given out twice: here the resource's, on AWS an ARN with a random part.
    id                   = "${var.deployment}-${var.colour}-${terraform_data.cluster.id}"
    # Kafka's own id. With KRaft whoever formats the disks chooses it, so it is known here; leave the line out where it is not.
    cluster_id           = terraform_data.cluster.id
    bootstrap            = terraform_data.cluster.output.bootstrap
    controller_bootstrap = terraform_data.cluster.output.bootstrap
    endpoint             = { cname = "kafka-${lower(var.suffix)}.${var.deployment}.test" }
  }
}
