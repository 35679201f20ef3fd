// Command keychain measures go-containerregistry: `keychain resolve HOST CALLERS QUESTIONS` finds
// a registry's credential in the docker configuration that DOCKER_CONFIG names, and `keychain token
// HOST CALLERS QUESTIONS` pings the registry and gets a token for a repository, each time anew.
//
// Prints `{"per_second", "p99_micros"}`.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sort"
	"strconv"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(words []string) error {
	if len(words) != 4 {
		return fmt.Errorf("usage: keychain resolve|token HOST CALLERS QUESTIONS")
	}
	ask := map[string]func(string, int) error{"resolve": resolve, "token": token}[words[0]]
	callers, err := strconv.Atoi(words[2])
	if err != nil {
		return err
	}
	questions, err := strconv.Atoi(words[3])
	if err != nil || ask == nil || callers*questions == 0 {
		return fmt.Errorf("nothing to measure: %v", words)
	}
	return pace(callers, questions, func(number int) error { return ask(words[1], number) })
}

// Callers at once, each with one question at a time.
func pace(callers, questions int, ask func(int) error) error {
	type answers struct {
		times []time.Duration
		err   error
	}
	ended := make(chan answers, callers)
	begun := time.Now()
	for caller := range callers {
		go func() {
			var mine answers
			for question := 0; question < questions && mine.err == nil; question++ {
				begun := time.Now()
				mine.err = ask(caller*questions + question)
				mine.times = append(mine.times, time.Since(begun))
			}
			ended <- mine
		}()
	}
	var times []time.Duration
	for range callers {
		theirs := <-ended
		if theirs.err != nil {
			return theirs.err
		}
		times = append(times, theirs.times...)
	}
	seconds := time.Since(begun).Seconds()
	sort.Slice(times, func(a, b int) bool { return times[a] < times[b] })
	last := times[(len(times)*99+99)/100-1]
	return json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"per_second": float64(len(times)) / seconds,
		"p99_micros": float64(last.Nanoseconds()) / 1000,
	})
}

func resolve(host string, _ int) error {
	registry, err := name.NewRegistry(host)
	if err != nil {
		return err
	}
	found, err := authn.DefaultKeychain.Resolve(registry)
	if err != nil {
		return err
	}
	config, err := found.Authorization()
	if err == nil && config.Password == "" {
		err = fmt.Errorf("no credential for %s", host)
	}
	return err
}

func token(host string, number int) error {
	repository, err := name.NewRepository(fmt.Sprintf("%s/acme/app-%d", host, number))
	if err != nil {
		return err
	}
	found, err := authn.DefaultKeychain.Resolve(repository)
	if err != nil {
		return err
	}
	scopes := []string{repository.Scope(transport.PullScope)}
	_, err = transport.NewWithContext(
		context.Background(), repository.Registry, found, http.DefaultTransport, scopes)
	return err
}
