module closed/cnpg-operator

go 1.26.6

require github.com/cloudnative-pg/cloudnative-pg v1.30.1

// The versions 0.6.0 of both are not to be had from every proxy. These builds of the former ones have what 1.30.1 calls:
// of machinery by machinery.patch, of barman-cloud by its sources from before the tag.
replace github.com/cloudnative-pg/machinery => ./machinery

replace github.com/cloudnative-pg/barman-cloud => github.com/cloudnative-pg/barman-cloud v0.5.2-0.20260720143032-950b0f57e122
