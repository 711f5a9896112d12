package main

// A row is a piece of work that each peer does which can.
type row struct {
	name string
	work string
	load func(part int) load
}

// rows returns the table's rows. A round is a part of its full size.
var rows = []row{
	echoRow("echo 64 B, 1 in flight, 100 connections", 64, 1, 100, 200),
	echoRow("echo 64 B, 16 in flight, 100 connections", 64, 16, 100, 100),
	echoRow("echo 1 KB, 1 in flight, 100 connections", 1<<10, 1, 100, 200),
	echoRow("echo 1 KB, 16 in flight, 100 connections", 1<<10, 16, 100, 60),
	echoRow("echo 16 KB, 1 in flight, 100 connections", 16<<10, 1, 100, 100),
	echoRow("echo 16 KB, 16 in flight, 100 connections", 16<<10, 16, 100, 20),
	echoRow("echo 1 MB, 1 in flight, 4 connections", 1<<20, 1, 4, 100),
	roomRow("room of 1,000, 1 outstanding", 1000, 1, 40),
	roomRow("room of 1,000, 8 outstanding", 1000, 8, 20),
	roomRow("room of 5,000, 8 outstanding", 5000, 8, 4),
}

func echoRow(name string, size, inFlight, connections, bursts int) row {
	return row{name, echoing, func(part int) load {
		return &echoes{size: size, inFlight: inFlight, connections: connections, bursts: max(1, bursts/part)}
	}}
}

func roomRow(name string, members, outstanding, batches int) row {
	return row{name, inRoom, func(part int) load {
		return &rooms{members: members / part, outstanding: outstanding, batches: max(1, batches/part)}
	}}
}
