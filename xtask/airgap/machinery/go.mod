module closed/machinery

go 1.26.4

require github.com/cloudnative-pg/machinery v0.5.0
