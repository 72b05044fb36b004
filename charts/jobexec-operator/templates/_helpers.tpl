{{/* The name of the installed objects; the name of a release can contain dots, that of a Service cannot. The label app.kubernetes.io/name does not change: `jobexec --store` finds the Pods by it. */}}
{{- define "jobexec.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | replace "." "-" | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | replace "." "-" | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The same for objects outside of the release's namespace, since another namespace may have a release of this name. */}}
{{- define "jobexec.uniqueName" -}}
{{- printf "%s:%s" .Release.Namespace (include "jobexec.fullname" .) -}}
{{- end -}}

{{- define "jobexec.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "jobexec.labels" -}}
{{ include "jobexec.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "jobexec.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "jobexec.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* The operator, as the subject of a binding. */}}
{{- define "jobexec.subject" -}}
- kind: ServiceAccount
  name: {{ include "jobexec.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}

{{- define "jobexec.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The watched namespaces, as a JSON list; empty for all namespaces. */}}
{{- define "jobexec.namespaces" -}}
{{- if eq .Values.rbac.scope "Cluster" -}}
[]
{{- else -}}
{{- .Values.watchNamespaces | default (list .Release.Namespace) | uniq | toJson -}}
{{- end -}}
{{- end -}}

{{/* The Secret with the certificate of the API, if there is one. */}}
{{- define "jobexec.tlsSecretName" -}}
{{- if .Values.api.enabled -}}
{{- if eq .Values.api.tls.source "Secret" -}}
{{- .Values.api.tls.secretName -}}
{{- else if eq .Values.api.tls.source "CertManager" -}}
{{- printf "%s-tls" (include "jobexec.fullname" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The DNS name of the Service, for which the certificate is issued and which callers verify. */}}
{{- define "jobexec.serviceHost" -}}
{{- printf "%s.%s.svc" (include "jobexec.fullname" .) .Release.Namespace -}}
{{- end -}}
