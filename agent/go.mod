module smolvm.dev/agent

go 1.18
