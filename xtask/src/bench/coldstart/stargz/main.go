// Command stargz is a daemon over the library of stargz-snapshotter, which Debian does not ship:
// `stargz ROOT SOCKET HOST` serves containerd's snapshots of eStargz images on a Unix socket, and
// reads HOST, over plain http, with the login of Docker's configuration in DOCKER_CONFIG.
//
// Settings are the library's own defaults.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/contrib/snapshotservice"
	"github.com/containerd/stargz-snapshotter/service"
	"github.com/containerd/stargz-snapshotter/service/keychain/dockerconfig"
	"github.com/containerd/stargz-snapshotter/service/resolver"
	"google.golang.org/grpc"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(words []string) error {
	if len(words) != 3 {
		return fmt.Errorf("usage: stargz ROOT SOCKET HOST")
	}
	root, socket, host := words[0], words[1], words[2]
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	config := &service.Config{ResolverConfig: service.ResolverConfig{
		Host: map[string]resolver.HostConfig{
			host: {Mirrors: []resolver.MirrorConfig{{Host: host, Insecure: true}}},
		},
	}}
	snapshotter, err := service.NewStargzSnapshotterService(ctx, root, config,
		service.WithCredsFuncs(dockerconfig.NewDockerconfigKeychain(ctx)))
	if err != nil {
		return err
	}
	defer snapshotter.Close()
	server := grpc.NewServer()
	snapshotsapi.RegisterSnapshotsServer(server, snapshotservice.FromSnapshotter(snapshotter))
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	go func() {
		<-ctx.Done()
		server.Stop()
	}()
	return server.Serve(listener)
}
