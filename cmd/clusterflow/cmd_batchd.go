package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"github.com/spf13/cobra"

	"clusterflow/internal/batchd"
)

func (a *app) batchdCommand() *cobra.Command {
	var listen, dir, judge string
	c := &cobra.Command{
		Use:   "batchd",
		Short: "Serve the Batch API on this machine, answered by the offline judge",
		Long: "batchd speaks the Files and Batches endpoints of the OpenAI API on loopback and answers\n" +
			"every request with the offline judge. Files and batches are kept in --dir: a batchd that\n" +
			"is started again goes on where it was. Evaluators reach it by base_url.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.batchd(c.Context(), listen, dir, judge)
		},
	}
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:8420", "the `address` to serve on; loopback only")
	c.Flags().StringVar(&dir, "dir", ".clusterflow-batchd", "the `folder` for files and batches")
	c.Flags().StringVar(&judge, "judge", "lexical", "who answers: lexical")
	return c
}

func (a *app) batchd(ctx context.Context, listen, dir, judge string) error {
	if judge != "lexical" {
		return fmt.Errorf("--judge %s: this release has only the lexical judge", judge)
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("--listen %s: give host:port, such as 127.0.0.1:8420", listen)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("--listen %s: batchd has no keys and serves only this machine; give a loopback address such as 127.0.0.1:8420", listen)
	}
	server, err := batchd.New(batchd.Options{Dir: dir, Judge: batchd.Lexical, Log: slog.New(slog.NewTextHandler(a.err, nil))})
	if err != nil {
		return err
	}
	defer server.Close()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "batchd serves http://%s/v1 from %s\n", l.Addr(), dir)
	if err := server.Serve(ctx, l); err != nil && !errors.Is(err, http.ErrServerClosed) && ctx.Err() == nil {
		return err
	}
	return nil
}
