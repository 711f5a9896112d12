package e2e

import (
	"context"
	"os/exec"
	"testing"
)

const python = "/usr/bin/python3" // Debian's, whatever else is in the PATH

// TestPythonClient: python-socketio is much used, and shares no code with npm's client.
func TestPythonClient(t *testing.T) {
	t.Parallel()
	needPython(t)
	for _, transports := range []string{"default", "polling", "websocket"} {
		t.Run(transports, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), lifetime)
			defer cancel()
			out, err := exec.CommandContext(ctx, python, "socketio-client.py", newLab(t).url, transports).CombinedOutput()
			if err != nil || string(out) != "ok\n" {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func needPython(t *testing.T) {
	t.Helper()
	if exec.Command(python, "-c", "import socketio, requests, websocket").Run() != nil {
		t.Fatal("python-socketio is not there: apt-get install python3-socketio python3-requests python3-websocket")
	}
}
