module compat/contract

go 1.24
