#!/usr/bin/env bash
# Makes in the directory $1: ca.pem, a certificate signed by it for the name localhost and nothing else (server.pem,
# server.key), and other-ca.pem, which signed nothing.
set -euo pipefail
cd "$1"
for authority in ca other-ca; do
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=test $authority" \
        -keyout "$authority.key" -out "$authority.pem" 2>/dev/null
done
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost \
    -keyout server.key -out server.csr 2>/dev/null
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
    -extfile <(echo subjectAltName=DNS:localhost) -out server.pem 2>/dev/null
chmod 644 ca.pem other-ca.pem
chmod 600 server.key
