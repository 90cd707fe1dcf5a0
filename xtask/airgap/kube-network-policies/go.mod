module closed/kube-network-policies

go 1.26.4

require sigs.k8s.io/kube-network-policies v0.8.0
