package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// onNode is the name of the peer whose server is no part of this program.
const onNode = "Socket.IO on Node"

// nodeDir is where that server is.
var nodeDir = func() string {
	_, source, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(source), "socketio")
}()

func nodeCommand() *exec.Cmd {
	return exec.Command("node", "--expose-gc", filepath.Join(nodeDir, "server.js"))
}

// installNode installs what the server needs, if that has not been done.
func installNode() error {
	if _, err := exec.LookPath("node"); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(nodeDir, "node_modules", "socket.io")); err == nil {
		return nil
	}
	install := exec.Command("npm", "ci", "--no-audit", "--no-fund")
	install.Dir = nodeDir
	if out, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	return nil
}
